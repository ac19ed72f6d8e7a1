metadata name = 'Function app'
metadata description = 'The other way to host Tidemark: a function app on a Flex Consumption plan.'

@description('Required. Begin of the names of plan and app.')
param name string

@description('Optional. Region.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Required. Identities of the app. The first one reads deployment package and log key, and keeps the state of the host.')
param managedIdentities { userAssignedResourceIds: string[] }

@description('Required. Client id of the first identity.')
param clientId string

@description('Required. Address of the blobs of the host\'s own storage account, with a slash at the end.')
param hostBlobEndpoint string

@description('Required. Container of the deployment package in that account.')
param deploymentContainerName string

@description('Required. Host name of the Service Bus namespace.')
param serviceBusHostName string

@description('Required. Resource id of the Log Analytics workspace.')
param workspaceResourceId string

@description('Required. Settings of the app, by variable.')
param environmentVariables object

@description('Optional. Address of the secret with the log key; empty: none.')
param logKeySecretUri string = ''

@description('Optional. Release of Node.')
param nodeVersion string = '24'

@description('Optional. Resource id of the subnet that the app calls from; empty: from no network of yours.')
param subnetResourceId string = ''

var appIdentity = managedIdentities.userAssignedResourceIds[0]
var settings = union(
  environmentVariables,
  {
    AzureWebJobsStorage__blobServiceUri: hostBlobEndpoint
    AzureWebJobsStorage__clientId: clientId
    AzureWebJobsStorage__credential: 'managedidentity'
    TIDEMARK_SERVICE_BUS__clientId: clientId
    TIDEMARK_SERVICE_BUS__credential: 'managedidentity'
    TIDEMARK_SERVICE_BUS__fullyQualifiedNamespace: serviceBusHostName
  },
  empty(logKeySecretUri) ? {} : { TIDEMARK_LOG_KEY: '@Microsoft.KeyVault(SecretUri=${logKeySecretUri})' }
)

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'asp-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-${name}'
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: toObject(managedIdentities.userAssignedResourceIds, id => id, id => {})
  }
  properties: {
    serverFarmId: plan.id
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostBlobEndpoint}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: appIdentity
          }
        }
      }
      runtime: {
        name: 'node'
        version: nodeVersion
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
      }
    }
    httpsOnly: true
    keyVaultReferenceIdentity: appIdentity
    siteConfig: {
      appSettings: map(items(settings), setting => { name: setting.key, value: setting.value })
      minTlsVersion: '1.2'
    }
    virtualNetworkSubnetId: empty(subnetResourceId) ? null : subnetResourceId
  }
}

resource passwords 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [
  for door in ['ftp', 'scm']: {
    parent: app
    name: door
    properties: {
      allow: false
    }
  }
]

resource appLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'workspace'
  scope: app
  properties: {
    logs: [
      {
        category: 'FunctionAppLogs'
        enabled: true
      }
    ]
    workspaceId: workspaceResourceId
  }
}

@description('Resource id of the function app.')
output resourceId string = app.id

@description('Name of the function app.')
output name string = app.name

@description('Resource group of the function app.')
output resourceGroupName string = resourceGroup().name

@description('Region of the function app.')
output location string = app.location
