"""What of a header may leave it: PS3.15, table E.1-1, the Basic Application Level Confidentiality Profile (2026c).

Only what is technical, and what a dataset says that it keeps; and it cannot keep what the table has removed, emptied,
replaced or cleaned. Six are an exception, see :data:`PSEUDONYMOUS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.schema import UnusableInput

TECHNICAL = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "Manufacturer",
    "ManufacturerModelName",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "PresentationLUTShape",
    "BurnedInAnnotation",
)
"""Keywords of the elements that every dataset keeps; none of them is in the table (``Manufacturer`` is not either)."""

PSEUDONYMOUS = frozenset(
    ("PatientID", "PatientSex", "PatientAge", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)
"""In the table, and to be kept all the same where a dataset asks for it: a release that was published is de-identified,
these are its pseudonyms, splits are dealt by the patient, and a model's fairness is measured by sex and age."""

PERSONAL_KINDS = frozenset(("DA", "DT", "LT", "PN", "ST", "TM", "UR", "UT"))
"""Kinds of values (VR, PS3.5, 6.2) that are names, dates, times, addresses or free text: refused anywhere."""
TEXT_KINDS = frozenset(("AE", "AS", "CS", "DS", "FD", "FL", "IS", "LO", "SH", "SL", "SS", "UC", "UI", "UL", "US"))
"""Those that are a text or numbers; what is left are sequences and bytes, which no cell can hold."""

_TABLE = """
AccessionNumber AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel AcquisitionUID AdmissionID
AdmittingDiagnosesDescription AffectedSOPInstanceUID Allergies AnnotationGroupLabel AnnotationGroupUID BranchOfService
CassetteID ChannelDerivationDescription ChannelLabel ClinicalTrialCoordinatingCenterName
ClinicalTrialProtocolEthicsCommitteeApprovalNumber ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolID
ClinicalTrialProtocolName ClinicalTrialSeriesDescription ClinicalTrialSeriesID ClinicalTrialSiteID
ClinicalTrialSiteName ClinicalTrialSponsorName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
ClinicalTrialTimePointID ConcatenationUID ConceptualVolumeUID ConfidentialityConstraintOnPatientDataDescription
ConstituentConceptualVolumeUID ContainerComponentID ContainerDescription ContainerIdentifier ContrastBolusAgent
CountryOfResidence CurrentPatientLocation DestinationAE DetectorID DeviceAlternateIdentifier DeviceDescription
DeviceLabel DeviceSerialNumber DeviceUID DigitalSignatureUID DimensionOrganizationUID DischargeDiagnosisDescription
DisplacementReferenceLabel DistributionAddress DoseReferenceDescription DoseReferenceUID DosimetricObjectiveUID
EntityLabel EntityLongLabel EntityName EthnicGroup FailedSOPInstanceUIDList FiducialUID
FillerOrderNumberImagingServiceRequest FractionGroupDescription FrameOfReferenceUID GPSAltitude GPSAltitudeRef GPSDOP
GPSDestBearing GPSDestBearingRef GPSDestDistance GPSDestDistanceRef GPSDestLatitude GPSDestLatitudeRef
GPSDestLongitude GPSDestLongitudeRef GPSDifferential GPSImgDirection GPSImgDirectionRef GPSLatitude GPSLatitudeRef
GPSLongitude GPSLongitudeRef GPSMeasureMode GPSSpeed GPSSpeedRef GPSStatus GPSTrack GPSTrackRef GantryID GeneratorID
HardcopyCreationDeviceID HumanPerformerOrganization InstanceCreatorUID InstanceOriginStatus InstitutionName
InstitutionalDepartmentName InsurancePlanIdentification InterpretationID InterpretationIDIssuer IrradiationEventUID
IssuerOfAdmissionID IssuerOfClinicalTrialProtocolID IssuerOfClinicalTrialSeriesID IssuerOfClinicalTrialSiteID
IssuerOfClinicalTrialSubjectID IssuerOfClinicalTrialSubjectReadingID IssuerOfClinicalTrialTimePointID
IssuerOfPatientID IssuerOfServiceEpisodeID LargePaletteColorLookupTableUID LensSpecification
ManufacturerDeviceClassUID MediaStorageSOPInstanceUID MedicalAlerts MedicalRecordLocator MilitaryRank
ModifiedImageDescription ModifyingDeviceID ModifyingSystem MultiplexGroupLabel MultiplexGroupUID NetworkID
ObservationSubjectUIDTrial ObservationUID Occupation OrderCallbackPhoneNumber OrderEntererLocation Originator
OtherPatientIDs PaletteColorLookupTableUID PatientAddress PatientInstitutionResidence PatientReligiousPreference
PatientSetupUID PatientSexNeutered PatientSize PatientState PatientTelephoneNumbers PatientTransportArrangements
PatientWeight PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepID PerformedStationAETitle
PerformedStationName PersonTelephoneNumbers PlacerOrderNumberImagingServiceRequest PlateID
PositionAcquisitionTemplateName PreMedication PregnancyStatus PresentationDisplayCollectionUID
PresentationSequenceCollectionUID ProtocolName PyramidDescription PyramidLabel PyramidUID ROIGenerationDescription
ROIName ROIObservationLabel RTAccessoryDeviceSlotID RTAccessoryHolderSlotID RTPlanLabel RTPlanName RTPrescriptionLabel
RTToleranceSetLabel RTTreatmentApproachLabel RTTreatmentPhaseUID RadiationDoseIdentificationLabel
RadiationDoseInVivoMeasurementLabel RadiationGenerationModeLabel ReasonForOmissionDescription ReasonForStudy
ReasonForTheAttributeModification ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure ReceivingAE
ReferencedConceptualVolumeUID ReferencedDoseReferenceUID ReferencedDosimetricObjectiveUID ReferencedFiducialsUID
ReferencedFrameOfReferenceUID ReferencedGeneralPurposeScheduledProcedureStepTransactionUID
ReferencedObservationUIDTrial ReferencedSOPInstanceUID ReferencedSOPInstanceUIDInFile
ReferencedTreatmentPositionGroupUID ReferringPhysicianTelephoneNumbers RegionOfResidence RelatedFrameOfReferenceUID
RequestedContrastAgent RequestedProcedureDescription RequestedProcedureID RequestedProcedureLocation
RequestedSOPInstanceUID RequestedSeriesDescription RequestingAE RequestingService ResponsibleOrganization ResultsID
ResultsIDIssuer RetrieveAETitle ScheduledPatientInstitutionResidence ScheduledProcedureStepDescription
ScheduledProcedureStepID ScheduledProcedureStepLocation ScheduledStationAETitle ScheduledStationName
ScheduledStudyLocation ScheduledStudyLocationAETitle SecondaryCaptureDeviceID SelectorAEValue SelectorASValue
SelectorLOValue SelectorSHValue SeriesDescription ServiceEpisodeDescription ServiceEpisodeID SlideIdentifier
SmokingStatus SourceConceptualVolumeUID SourceFrameOfReferenceUID SourceManufacturer SourceOfPreviousValues
SourceSerialNumber SpecialNeeds SpecimenAccessionNumber SpecimenIdentifier SpecimenShortDescription SpecimenUID
StationAETitle StationName StorageMediaFileSetUID StructureSetLabel StructureSetName StudyDescription StudyID
StudyIDIssuer SynchronizationFrameOfReferenceUID TableTopPositionAlignmentUID TargetUID TelephoneNumberTrial
TemplateExtensionCreatorUID TemplateExtensionOrganizationUID TextString TimezoneOffsetFromUTC TopicAuthor
TopicKeywords TopicTitle TrackingUID TransactionUID TreatmentMachineName TreatmentPositionGroupLabel
TreatmentPositionGroupUID TreatmentSessionUID TreatmentSite TreatmentSites UID UserContentLabel UserContentLongLabel
VerifyingOrganization XRayDetectorID XRaySourceID
"""
IN_TABLE = frozenset(_TABLE.split())
"""Keywords of the table (GPS positions, numbers and labels of devices, institutions, insurances, trials, UIDs …) whose
kind of value is not refused anyway."""


def insist_on_keeps(keeps: Sequence[str], dataset: str) -> None:
    """Raise :class:`UnusableInput` for a keyword that must stay in the file, is none, or cannot be a text.

    Needs pydicom for its dictionary.
    """
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    for keyword in keeps:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise UnusableInput(f"{dataset} keeps {keyword!r} of DICOM headers: there is no element of that keyword")
        kinds = set(dictionary_VR(tag).split(" or "))
        is_personal = keyword in IN_TABLE or bool(kinds & PERSONAL_KINDS)
        if is_personal and keyword not in PSEUDONYMOUS:
            raise UnusableInput(
                f"{dataset} keeps {keyword} of DICOM headers, which can tell who somebody is (PS3.15, table E.1-1, or "
                f"a name, date, time or free text): take it out of keeps; allowed of these are "
                f"{', '.join(sorted(PSEUDONYMOUS))}"
            )
        if not kinds <= TEXT_KINDS:
            raise UnusableInput(f"{dataset} keeps {keyword} of DICOM headers, which is no text and no number")


def kept(keeps: Sequence[str]) -> tuple[str, ...]:
    """Keywords of all that leaves a header, the technical ones first, each once."""
    return tuple(dict.fromkeys((*TECHNICAL, *keeps)))
